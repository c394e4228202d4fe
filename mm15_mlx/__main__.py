"""`python -m mm15_mlx VERB`: the same as `mm15-mlx VERB`."""

from mm15_mlx.cli import main

if __name__ == "__main__":
    main()
