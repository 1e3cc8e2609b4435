package filter

import "cmp"

// number is a JSON number, taken apart so that it can be compared exactly: it
// is worth ±0.d₁d₂d₃… × 10^exponent, with the digits of whole and part in a row
// and d₁ not zero.
type number struct {
	negative bool
	exponent int
	whole    []byte // digits before the point, without leading zeros …
	part     []byte // … and those after it; without leading zeros when whole is empty
}

// hugeExponent is as far as exponents are told apart: beyond every number that
// a filter can name.
const hugeExponent = 1 << 40

// parseNumber reads a JSON number. Of something else it makes some number.
func parseNumber(b []byte) number {
	var n number
	if len(b) > 0 && b[0] == '-' {
		n.negative, b = true, b[1:]
	}
	i := 0
	for i < len(b) && digit(b[i]) {
		i++
	}
	n.whole, b = b[:i], b[i:]
	if len(b) > 0 && b[0] == '.' {
		i = 1
		for i < len(b) && digit(b[i]) {
			i++
		}
		n.part, b = b[1:i], b[i:]
	}
	for len(n.whole) > 0 && n.whole[0] == '0' {
		n.whole = n.whole[1:]
	}
	n.exponent = len(n.whole)
	if len(n.whole) == 0 {
		for len(n.part) > 0 && n.part[0] == '0' {
			n.part = n.part[1:]
			n.exponent--
		}
	}
	n.exponent += exponent(b)
	for len(n.part) > 0 && n.part[len(n.part)-1] == '0' {
		n.part = n.part[:len(n.part)-1]
	}
	if len(n.part) == 0 {
		for len(n.whole) > 0 && n.whole[len(n.whole)-1] == '0' {
			n.whole = n.whole[:len(n.whole)-1]
		}
	}
	if len(n.whole)+len(n.part) == 0 {
		return number{} // 0, -0, 0e9
	}
	return n
}

// exponent reads e+12, as far as hugeExponent.
func exponent(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	b = b[1:]
	sign := 1
	switch b[0] {
	case '-':
		sign, b = -1, b[1:]
	case '+':
		b = b[1:]
	}
	e := 0
	for _, c := range b {
		if e = e*10 + int(c-'0'); e >= hugeExponent {
			return sign * hugeExponent
		}
	}
	return sign * e
}

// compare is -1, 0 or 1 as a is less than, equal to or more than b.
func (a *number) compare(b *number) int {
	if s := cmp.Compare(a.sign(), b.sign()); s != 0 || a.sign() == 0 {
		return s
	}
	c := cmp.Compare(a.exponent, b.exponent)
	for i := 0; c == 0 && (i < a.len() || i < b.len()); i++ {
		c = cmp.Compare(a.digit(i), b.digit(i))
	}
	return c * a.sign()
}

func (a *number) sign() int {
	switch {
	case a.len() == 0:
		return 0
	case a.negative:
		return -1
	}
	return 1
}

func (a *number) len() int { return len(a.whole) + len(a.part) }

// digit is d_i, counted from 0; '0' behind the last.
func (a *number) digit(i int) byte {
	switch {
	case i < len(a.whole):
		return a.whole[i]
	case i < a.len():
		return a.part[i-len(a.whole)]
	}
	return '0'
}
