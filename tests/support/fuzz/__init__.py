"""Feed damaged and hostile input to everything that reads a user's files, and watch what happens.

``python -m tests.support.fuzz --count 50000 --seed 1`` is the long form. Each input is either read
or refused in one line: no other exception, no 10 s, no write outside its folder, no code of its
own run, no memory beyond twice its size and 500 MB.
"""
