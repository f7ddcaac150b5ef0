"""The data sets of the paper besides Ledger-QA, from the hub or a folder. `sets` names them."""
