package main

// identitySocket is empty: the ssh of Windows asks agents by named pipes.
func identitySocket() string { return "" }
