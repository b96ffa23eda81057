"""The battery's books: who held which module, how it was treated, and which one will fail next.

Everything here is derived from stored rows, and can be derived again: a database without these tables loses nothing.
`record.py` has the words; `table.py` what is kept of them in the database; `keeper.py` keeps it up to date.
"""
