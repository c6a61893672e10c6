"""`attnbench reproduce`: train a published cell, or test a published sentence, and judge it.

`papers` reads what conf/paper describes, `training` trains a cell, `claims` test sentences,
`verdicts` judges, `stored` keeps what came out, `table` and `page` show it, `command` ties them.
"""
