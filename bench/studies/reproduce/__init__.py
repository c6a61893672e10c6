"""`attnbench reproduce`: train a published cell, or test a published claim, and judge it.

`papers` has the entries of each paper, `running` trains cells and calls the functions of `claims`,
`findings` stores their results, `stored` judges an entry by `verdicts`, `page` and `command` show
all of them, and `power` plans seeds.
"""
