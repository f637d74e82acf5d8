package main

// rdpProgram is the RDP client of this system: open hands the address to the Windows App.
func rdpProgram() rdpClient { return rdpClient{name: "open", returns: true} }
