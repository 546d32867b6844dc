"""Drawings with labels: emoji, icons and clip art, for models of stickers and of search.

sources, sets   which sets, from which packages, under which licences
names           what a drawing shows: words, concept, family
readers         drawings and labels out of their packages
raster          drawings made into pictures
split           what is held back
build, credits  the folder: pictures/, captions.jsonl, CREDITS.txt, NOTICE, left-out.txt
"""
