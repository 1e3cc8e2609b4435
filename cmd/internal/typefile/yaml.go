package typefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/grapnel-hooks/grapnel/stream"
)

// maxDepth is the type's own two levels and what an event may have.
const maxDepth = stream.MaxDepth + 2

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil {
		return t.Position.Line
	}
	return 0
}

// errLine is the line that err is about, or that one.
func errLine(err error, otherwise int) int {
	var e *lineError
	if errors.As(err, &e) {
		return e.line
	}
	return otherwise
}

type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return e.text }

// appendJSON appends what a YAML node says, as JSON.
func appendJSON(dst []byte, n ast.Node, depth int) ([]byte, error) {
	no := func(format string, args ...any) ([]byte, error) {
		return nil, &lineError{line(n), fmt.Sprintf(format, args...)}
	}
	if depth > maxDepth {
		return no("is more than %d levels deep", stream.MaxDepth)
	}
	var err error
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		dst = append(dst, '{')
		seen := map[string]bool{}
		for it := n.(ast.MapNode).MapRange(); it.Next(); {
			key, ok := keyText(it.Key())
			if !ok {
				return no("has a key that is no text")
			}
			if seen[key] {
				return no("has the key %.60q twice", key)
			}
			if len(seen) > 0 {
				dst = append(dst, ',')
			}
			seen[key] = true
			dst = append(stream.AppendJSONString(dst, key), ':')
			if dst, err = appendJSON(dst, it.Value(), depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case *ast.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Values {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendJSON(dst, item, depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case *ast.StringNode:
		return stream.AppendJSONString(dst, n.Value), nil
	case *ast.LiteralNode:
		return stream.AppendJSONString(dst, n.Value.Value), nil
	case *ast.BoolNode:
		return fmt.Appendf(dst, "%t", n.Value), nil
	case *ast.NullNode:
		return append(dst, "null"...), nil
	case *ast.IntegerNode, *ast.FloatNode:
		text := strings.TrimSpace(n.GetToken().Value)
		if !json.Valid([]byte(text)) {
			return no("%.40s is no number of JSON: write it in digits, or in quotes as a text", text)
		}
		return append(dst, text...), nil
	case *ast.InfinityNode, *ast.NanNode:
		return no("JSON has no such number")
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return no("anchors and aliases are not supported: write it out, or use $defs")
	case *ast.TagNode:
		return no("tags are not supported")
	}
	return no("cannot be written as JSON")
}

// keyText is a mapping's key. Schemas have some that look like numbers.
func keyText(n ast.MapKeyNode) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}
