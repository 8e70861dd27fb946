"""The server of `emlc review`: the report's review page, for several people, kept in a database.

``desk`` collects what is shown, ``app`` answers the requests, ``access`` refuses those of strangers,
``messages`` checks what the page sends, ``neighbours`` finds similar samples.
"""

from emlc.server.app import make_app
from emlc.server.desk import Desk, open_desk

__all__ = ["Desk", "make_app", "open_desk"]
