"""Where the files that come with the package are: in a checkout, or in the share folder of an installation."""

from __future__ import annotations

from pathlib import Path


def config_file(name: str) -> Path:
    """Path of a file of ``config/``.

    Raises:
        FileNotFoundError: If neither a checkout nor an installation has it.
    """
    checkout = Path(__file__).resolve().parent.parent / "config" / name
    if checkout.is_file():
        return checkout
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

        try:
            installed = Path(get_package_share_directory("mosaic3d_ros")) / "config" / name
        except PackageNotFoundError:
            installed = checkout
    except ImportError:
        installed = checkout
    if not installed.is_file():
        raise FileNotFoundError(
            f"'{name}' is neither in '{checkout.parent}' nor in an installed package mosaic3d_ros; install the whole package."
        )
    return installed
