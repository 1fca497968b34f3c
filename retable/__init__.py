"""retable: rebuild the tables of a paper and say, number by number, whether they hold."""

__version__ = "0.1.0"
