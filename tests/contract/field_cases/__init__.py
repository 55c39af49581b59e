"""What each field of a request does, one case a line of `request-fields.txt`. `registry` says how a case is written."""
