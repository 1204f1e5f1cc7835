package platform

import "os"

func unnamedFile(dir string) (*os.File, error) { return createUnlinked(dir) }
