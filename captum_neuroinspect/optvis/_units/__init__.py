"""Where a network's units are: layouts, maps, and ways past closed rectifiers."""
