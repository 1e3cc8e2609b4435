package sqlite

import (
	"context"
	"database/sql"
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
