package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-sqlite3"
)

// conn is the writer's connection: the driver's own, below database/sql, so
// that a statement costs its binds and its step and no garbage. Only the
// writer's goroutine uses it. It keeps every statement that it was ever given
// prepared; all of them are constants of this package.
type conn struct {
	c     *sqlite3.SQLiteConn
	stmts map[string]*stmt
}

// stmt is a prepared statement and room for its arguments.
type stmt struct {
	st   *sqlite3.SQLiteStmt
	args []driver.NamedValue
}

// background has no Done channel. With one, the driver would run each
// statement through a goroutine of its own, which costs 40 % of the rate.
var background = context.Background()

func newConn(c *sqlite3.SQLiteConn) *conn {
	return &conn{c: c, stmts: make(map[string]*stmt)}
}

func (c *conn) prepare(query string) (*stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	prepared, err := c.c.PrepareContext(background, query)
	if err != nil {
		return nil, fmt.Errorf("prepare %.60q: %w", query, err)
	}
	st := prepared.(*sqlite3.SQLiteStmt)
	s := &stmt{st: st, args: make([]driver.NamedValue, st.NumInput())}
	for i := range s.args {
		s.args[i].Ordinal = i + 1
	}
	c.stmts[query] = s
	return s, nil
}

// exec runs query and returns how many rows it changed.
func (c *conn) exec(query string, args ...driver.Value) (int64, error) {
	s, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	s.set(0, args...)
	return s.exec()
}

// set places values from argument i on (counted from 0) and returns the index
// after them.
func (s *stmt) set(i int, values ...driver.Value) int {
	for _, v := range values {
		s.args[i].Value = v
		i++
	}
	return i
}

func (s *stmt) exec() (int64, error) {
	res, err := s.st.ExecContext(background, s.args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row is one row of an answer. Its methods read a column as what it was
// declared to be; NULL reads as the zero value.
type row []driver.Value

func (r row) int(i int) int64 {
	v, _ := r[i].(int64)
	return v
}

func (r row) text(i int) string {
	v, _ := r[i].(string)
	return v
}

func (r row) blob(i int) []byte {
	v, _ := r[i].([]byte)
	return v
}

// query calls each for every row of the answer; the row is valid until each
// returns.
func (c *conn) query(each func(row) error, query string, args ...driver.Value) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	s.set(0, args...)
	rows, err := s.st.QueryContext(background, s.args)
	if err != nil {
		return err
	}
	return drain(rows, len(rows.Columns()), each)
}

// drain gives each row of the answer, which is valid until each returns, and closes
// the answer.
func drain(rows driver.Rows, columns int, each func(row) error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	r := make(row, columns)
	for {
		switch err := rows.Next(r); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := each(r); err != nil {
			return err
		}
	}
}

// one reads the first row of the answer; false when there is none.
func (c *conn) one(dst row, query string, args ...driver.Value) (bool, error) {
	found := false
	err := c.query(func(r row) error {
		if !found {
			copy(dst, r)
			found = true
		}
		return nil
	}, query, args...)
	return found, err
}

// manyRows is how many rows the statements for many rows take. Binding costs
// as much as before, but there is one step for all of them.
const manyRows = 64

// values is n row constructors, joined by commas.
func values(row string, n int) string {
	return strings.TrimSuffix(strings.Repeat(row+",", n), ",")
}
