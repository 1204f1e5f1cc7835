package health

import "strings"

// bounded is an io.Writer that keeps the first [OutputLimit] bytes.
type bounded struct {
	text strings.Builder
	more bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := len(p)
	if room := OutputLimit - b.text.Len(); n > room {
		p, b.more = p[:room], true
	}
	b.text.Write(p)
	return n, nil
}

// with is what was written, and a sentence behind it.
func (b *bounded) with(sentence string) string {
	text := b.text.String()
	if b.more {
		text += "..."
	}
	if text != "" && sentence != "" {
		text = strings.TrimSuffix(text, "\n") + "\n"
	}
	return strings.ToValidUTF8(text+sentence, "\uFFFD")
}
