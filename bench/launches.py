"""`attnbench launches`: list the GPU kernels that Triton operators launch, without a GPU."""

from bench.studies.launches.study import main

if __name__ == "__main__":
    raise SystemExit(main())
