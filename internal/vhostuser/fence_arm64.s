//go:build linux

#include "textflag.h"

// func fence()
TEXT ·fence(SB), NOSPLIT|NOFRAME, $0-0
	DMB	$0xb // ISH
	RET
