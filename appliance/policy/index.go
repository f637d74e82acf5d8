package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// An index finds the statements that may fit a principal and a resource, by what stands at the head of each: the entities
// that its principal and its resource must be or be in, which are those of its scope and of the conditions that directly
// follow it and compare nothing else. A statement stands in the list of each pair of them; a request looks at the pairs
// of its own entities and all that those are in.
type index struct {
	numbers map[types.EntityUID]uint32 // of the entities that are in a head; anything has 0
	lists   map[uint64][]int32         // statements by the numbers of principal and resource
}

// maxHeads bounds the pairs under which one statement stands. One with more stands under fewer that include them.
const maxHeads = 1024

func newIndex(all []*statement) *index {
	x := &index{numbers: make(map[types.EntityUID]uint32), lists: make(map[uint64][]int32)}
	for _, s := range all {
		principals, resources := heads(s.parsed)
		if len(principals)*len(resources) > maxHeads {
			resources = nil
		}
		if len(principals) > maxHeads {
			principals = nil
		}
		for _, p := range x.numbered(principals) {
			for _, r := range x.numbered(resources) {
				key := uint64(p)<<32 | uint64(r)
				x.lists[key] = append(x.lists[key], int32(s.order))
			}
		}
	}
	return x
}

// numbered gives entities their numbers; none at all is anything.
func (x *index) numbered(ids []types.EntityUID) []uint32 {
	if ids == nil {
		return []uint32{0}
	}
	numbers := make([]uint32, 0, len(ids))
	for _, id := range ids {
		n, ok := x.numbers[id]
		if !ok {
			n = uint32(len(x.numbers)) + 1
			x.numbers[id] = n
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// find returns the orders of the statements that may fit, in order.
func (x *index) find(principal, resource types.Entity) (orders []int32) {
	principals, resources := x.known(principal), x.known(resource)
	for _, p := range principals {
		for _, r := range resources {
			orders = append(orders, x.lists[uint64(p)<<32|uint64(r)]...)
		}
	}
	slices.Sort(orders)
	return slices.Compact(orders)
}

// known returns the numbers of what an entity is and is in. Nothing in the schema is in anything that is in more.
func (x *index) known(e types.Entity) []uint32 {
	numbers := []uint32{0}
	add := func(id types.EntityUID) {
		if n, ok := x.numbers[id]; ok {
			numbers = append(numbers, n)
		}
	}
	add(e.UID)
	add(typeHead(e.UID.Type))
	for id := range e.Parents.All() {
		add(id)
	}
	return numbers
}

// typeHead stands in the index for all entities of a type. No entity has an empty name.
func typeHead(t types.EntityType) types.EntityUID { return uid(t, "") }

// heads returns the entities of which principal and resource must each be or be in one; nil means that any will do.
func heads(p *ast.Policy) (principals, resources []types.EntityUID) {
	principals, resources = scopeHead(p.Principal), scopeHead(p.Resource)
	for _, c := range p.Conditions {
		if c.Condition == ast.ConditionUnless {
			break
		}
		variable, ids := membership(c.Body)
		switch {
		case variable == "principal":
			principals = narrower(principals, ids)
		case variable == "resource":
			resources = narrower(resources, ids)
		default:
			return principals, resources
		}
	}
	return principals, resources
}

// narrower chooses between what the scope says and a condition: entities are fewer than a type.
func narrower(scope, condition []types.EntityUID) []types.EntityUID {
	if len(scope) == 1 && scope[0].ID != "" {
		return scope
	}
	return condition
}

func scopeHead(scope ast.IsScopeNode) []types.EntityUID {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return []types.EntityUID{s.Entity}
	case ast.ScopeTypeIn:
		return []types.EntityUID{s.Entity}
	case ast.ScopeTypeIsIn:
		return []types.EntityUID{s.Entity}
	case ast.ScopeTypeIs:
		return []types.EntityUID{typeHead(s.Type)}
	}
	return nil
}

// membership reads a condition that says only which entities a variable must be or be in, such as
// principal in [Group::"a", Group::"b"]. Such a condition cannot fail, so a statement that it keeps from being asked has
// not failed to answer.
func membership(n ast.IsNode) (variable types.String, ids []types.EntityUID) {
	switch n := n.(type) {
	case ast.NodeTypeEquals:
		return compared(n.Left, n.Right)
	case ast.NodeTypeIn:
		return compared(n.Left, n.Right)
	case ast.NodeTypeContains:
		if _, ok := n.Left.(ast.NodeTypeSet); ok {
			return compared(n.Right, n.Left)
		}
	case ast.NodeTypeOr:
		left, some := membership(n.Left)
		right, more := membership(n.Right)
		if left == right {
			return left, slices.Concat(some, more)
		}
	}
	return "", nil
}

func compared(variable, with ast.IsNode) (types.String, []types.EntityUID) {
	v, ok := variable.(ast.NodeTypeVariable)
	if !ok {
		return "", nil
	}
	elements := []ast.IsNode{with}
	if set, ok := with.(ast.NodeTypeSet); ok {
		elements = set.Elements
	}
	ids := make([]types.EntityUID, 0, len(elements))
	for _, e := range elements {
		value, ok := e.(ast.NodeValue)
		if !ok {
			return "", nil
		}
		id, ok := value.Value.(types.EntityUID)
		if !ok {
			return "", nil
		}
		ids = append(ids, id)
	}
	return v.Name, ids
}
