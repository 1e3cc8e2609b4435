package sqlite

import "database/sql/driver"

// inserter collects rows for a statement of manyRows rows, and writes what is
// left over by one of one row. Arguments that all rows share come first.
type inserter struct {
	c         *conn
	many, one string
	shared    []driver.Value
	width     int // arguments of each row
	st        *stmt
	rows      int // in st
}

func (t *txn) inserter(many, one string, shared, width int, values ...driver.Value) *inserter {
	return &inserter{c: t.c, many: many, one: one, shared: values[:shared], width: width}
}

// add takes one row, and writes when there are enough.
func (in *inserter) add(values ...driver.Value) error {
	if in.st == nil {
		st, err := in.c.prepare(in.many)
		if err != nil {
			return err
		}
		st.set(0, in.shared...)
		in.st = st
	}
	in.st.set(len(in.shared)+in.rows*in.width, values...)
	if in.rows++; in.rows < manyRows {
		return nil
	}
	in.rows = 0
	_, err := in.st.exec()
	return err
}

// flush writes the rest, row by row.
func (in *inserter) flush() error {
	if in.rows == 0 {
		return nil
	}
	one, err := in.c.prepare(in.one)
	if err != nil {
		return err
	}
	one.set(0, in.shared...)
	for i := range in.rows {
		from := len(in.shared) + i*in.width
		for j := range in.width {
			one.args[len(in.shared)+j].Value = in.st.args[from+j].Value
		}
		if _, err := one.exec(); err != nil {
			return err
		}
	}
	in.rows = 0
	return nil
}
