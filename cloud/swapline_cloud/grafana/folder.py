"""The folder that boards and alert rules are in."""

from collections.abc import Iterator

from swapline_cloud.plan import CREATE, UPDATE, Change, diff_of

from .connection import Connection

FOLDER = "swapline"  # uid and title


def changes(connection: Connection) -> Iterator[Change]:
    """Yield what is to be done about the folder."""
    api = connection.api.folder
    actual = connection.find("read the folder", api.get_folder, FOLDER)
    if actual is None:
        yield Change(
            CREATE,
            "folder",
            FOLDER,
            diff_of("", FOLDER),
            lambda: connection.ask("create the folder", api.create_folder, FOLDER, FOLDER),
        )
    elif actual["title"] != FOLDER:
        yield Change(
            UPDATE,
            "folder",
            FOLDER,
            diff_of(actual["title"], FOLDER),
            lambda: connection.ask("rename the folder", api.update_folder, FOLDER, FOLDER, overwrite=True),
        )
