package cel

import (
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// peerStr and peerTruthy are plain stand-ins for our helpers, for the peer in benchmarks and comparisons.
func peerStr(v ref.Val) ref.Val {
	switch v := v.(type) {
	case types.String:
		return v
	case types.Null:
		return types.String("")
	}
	return v.ConvertToType(types.StringType)
}

func peerTruthy(v ref.Val) ref.Val {
	switch v := v.(type) {
	case types.Null:
		return types.False
	case types.Bool:
		return v
	case types.Int:
		return types.Bool(v != 0)
	case types.Double:
		return types.Bool(v != 0)
	case traits.Sizer:
		return types.Bool(v.Size() != types.IntZero)
	}
	return types.True
}
