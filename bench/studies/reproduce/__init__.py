"""`attnbench reproduce`: train a published cell, or test a published claim, and judge it.

`papers` reads the entries of conf/paper, `running` trains cells and calls the functions of
`claims`, `findings` stores their results, `stored` judges an entry by `verdicts`, `table` and
`page` show all of them, `power` plans seeds, and `command` ties these together.
"""
