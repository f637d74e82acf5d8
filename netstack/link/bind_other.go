//go:build !linux

package link

import "net"

const controlSize = 0

func cutsDatagrams(*net.UDPConn) bool { return false }
func segmentControl([]byte, int)      {}
func refusesToCut(error) bool         { return false }
