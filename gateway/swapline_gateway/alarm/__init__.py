"""The alarm book: rows of the stream `alarm` joined to alarms, from raised to cleared, and who has seen them.

`book.py` joins rows, and is pure; `source.py` asks the database for them; `watch.py` keeps the book of a running
gateway; `acknowledge.py` is what people say of an alarm; `routes.py` shows all of it over HTTP.
"""
