"""`python -m paddock` is the command line; a job's process is started this way."""

from paddock.cli import main

if __name__ == "__main__":
    main()
