package stream

// AppendStandard appends the body of the format standard.
func AppendStandard(dst []byte, ev *Event) []byte { return dst }
