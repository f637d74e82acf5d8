package main

// rdpProgram is the RDP client of this system.
func rdpProgram() rdpClient { return rdpClient{name: "mstsc"} }
