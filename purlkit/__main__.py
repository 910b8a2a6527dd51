"""`python -m purlkit` is `purl`."""

from purlkit.cli.app import main

if __name__ == "__main__":
    main()
