package deliver

// CheckURL is replaced in the next commit.
func CheckURL(raw string, allowHTTP bool) (canonical string, err error) { return raw, nil }
