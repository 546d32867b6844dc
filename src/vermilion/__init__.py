"""Vermilion: one brief in, a finished set out.

    import vermilion as vm
    finished = vm.make("a launch set for a small roastery's new dark roast, warm tone")

Importing this loads no torch: each name is resolved when it is first used.
"""
