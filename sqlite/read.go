package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
)

// querier is a pool, or one connection of it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls f for every row of the answer. Reading is not cut off by a
// context: every query of this package is bounded, and watching for the end of a context costs
// as much as a row.
func each(q querier, f func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := q.QueryContext(background, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// eachRow is each for queries with very many rows: below database/sql, where a
// row costs a third. The row has that many columns, and is valid until f returns.
func eachRow(c *sql.Conn, columns int, f func(row) error, query string, args ...any) error {
	named := make([]driver.NamedValue, len(args))
	for i, v := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return c.Raw(func(dc any) error {
		raw, ok := dc.(driver.QueryerContext)
		if !ok {
			return fmt.Errorf("unexpected driver %T", dc)
		}
		rows, err := raw.QueryContext(background, query, named)
		if err != nil {
			return err
		}
		return drain(rows, columns, f)
	})
}

// read asks the pool of readers.
func (s *Store) read(f func(scan func(...any) error) error, query string, args ...any) error {
	return each(s.readDB, f, query, args...)
}

// column reads a list of integers.
func (s *Store) column(query string, args ...any) ([]int64, error) {
	var list []int64
	err := s.read(func(scan func(...any) error) error {
		var v int64
		err := scan(&v)
		list = append(list, v)
		return err
	}, query, args...)
	return list, err
}
