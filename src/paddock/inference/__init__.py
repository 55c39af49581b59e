"""Models: which there are (`store`), and what is asked of them (`engine`), here (`local`) or elsewhere (`remote`).

The engine process (`engine_process`) holds local models; the server and evaluation jobs are its clients.
"""
