package filter

// tree is the paths of many filters, put together: a node for each place in
// the data to which a path leads or on the way to which one lies. The root, node 0, is
// the data themselves.
type tree struct {
	nodes []treeNode
}

type treeNode struct {
	few      []branch         // members, while there are few …
	many     map[string]int32 // … and otherwise
	each     int32            // elements; 0: nobody asks for them
	up       int32            // the node above
	over     int32            // the nearest one from here up that is one of elements; 0: none
	shortest int              // names of the members, in bytes
	longest  int
}

// branch is a member that somebody asks for.
type branch struct {
	name string
	node int32
}

// fewBranches is how many names are found faster one after the other than by a
// map.
const fewBranches = 6

// add puts a path into the tree, and returns the node to which it leads.
func (t *tree) add(p path) int32 {
	if len(t.nodes) == 0 {
		t.nodes = make([]treeNode, 1)
	}
	var at int32
	for _, s := range p {
		next := t.nodes[at].each
		if !s.each {
			next = t.nodes[at].child([]byte(s.name))
		}
		if next == 0 {
			next = int32(len(t.nodes))
			made := treeNode{over: t.nodes[at].over, up: at}
			if s.each {
				made.over = next
			}
			t.nodes = append(t.nodes, made)
			t.nodes[at].link(s, next)
		}
		at = next
	}
	return at
}

func (n *treeNode) link(s step, to int32) {
	if !s.each {
		if !n.members() || len(s.name) < n.shortest {
			n.shortest = len(s.name)
		}
		n.longest = max(n.longest, len(s.name))
	}
	switch {
	case s.each:
		n.each = to
	case n.many != nil:
		n.many[s.name] = to
	case len(n.few) < fewBranches:
		n.few = append(n.few, branch{s.name, to})
	default:
		n.many = make(map[string]int32)
		for _, b := range n.few {
			n.many[b.name] = b.node
		}
		n.many[s.name] = to
		n.few = nil
	}
}

// child is the node of the member of that name, or 0.
func (n *treeNode) child(name []byte) int32 {
	if n.many != nil {
		return n.many[string(name)]
	}
	for i := range n.few {
		if b := &n.few[i]; string(name) == b.name {
			return b.node
		}
	}
	return 0
}

// members reports whether anybody asks for members.
func (n *treeNode) members() bool { return len(n.few) > 0 || n.many != nil }
