"""`python -m tellerline` is `tellerline`."""

from tellerline.cli import main

main()
