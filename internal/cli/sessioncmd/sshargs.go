package sessioncmd

import (
	"fmt"
	"strings"
)

// sshWithOperand are the options of ssh(1), SYNOPSIS, that an argument belongs to.
const sshWithOperand = "BbcDEeFIiJLlmOoPpQRSWw"

// An sshOption is one of ssh(1)'s, with its argument if it takes one.
type sshOption struct {
	letter  byte
	operand string
}

// splitSSH tells the options of ssh(1) from the command behind them, as getopt(3)
// does. An unknown option is taken for one without an argument: ssh(1) knows what
// to say about it.
func splitSSH(args []string) (options []sshOption, command []string, err error) {
	for len(args) > 0 {
		word := args[0]
		if word == "--" {
			return options, args[1:], nil
		}
		if len(word) < 2 || word[0] != '-' {
			return options, args, nil
		}
		args = args[1:]
		for letters := word[1:]; letters != ""; {
			o := sshOption{letter: letters[0]}
			letters = letters[1:]
			if strings.IndexByte(sshWithOperand, o.letter) >= 0 {
				switch {
				case letters != "":
					o.operand, letters = letters, ""
				case len(args) > 0:
					o.operand, args = args[0], args[1:]
				default:
					return nil, nil, fmt.Errorf("the option -%c of ssh needs an argument", o.letter)
				}
			}
			options = append(options, o)
		}
	}
	return options, nil, nil
}

// sshArgs are the options as arguments again.
func sshArgs(options []sshOption) []string {
	var args []string
	for _, o := range options {
		args = append(args, "-"+string(o.letter))
		if strings.IndexByte(sshWithOperand, o.letter) >= 0 {
			args = append(args, o.operand)
		}
	}
	return args
}
