package fanouttest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryBooks(t *testing.T) {
	TestBooks(t, func(*testing.T) (Store, func() Store) {
		disk := NewDisk()
		books := disk.Open()
		return books, func() Store {
			books.Crash()
			books = disk.Open()
			return books
		}
	})
}
