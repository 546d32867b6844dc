"""Where models live, how they are opened, and the engines that run them."""
