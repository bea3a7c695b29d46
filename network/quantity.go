package network

import (
	"fmt"
	"math/big"
	"regexp"
)

// quantityForm is the subset of Kubernetes quantities that makes sense for a
// rate: a decimal number, perhaps with an exponent or a suffix.
var quantityForm = regexp.MustCompile(`^\+?([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:([eE][+-]?[0-9]{1,2})|(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?$`)

var quantitySuffix = map[string]int64{
	"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
	"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60,
}

// parseQuantity reads a Kubernetes quantity such as "10M" or "1.5Gi", rounded
// up to a whole number.
func parseQuantity(text string) (uint64, error) {
	m := quantityForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a quantity such as 10M or 1.5Gi", text)
	}
	value, ok := new(big.Rat).SetString(m[1] + m[2])
	if !ok {
		return 0, fmt.Errorf("%q is not a quantity such as 10M or 1.5Gi", text)
	}
	if m[3] != "" {
		value.Mul(value, new(big.Rat).SetInt64(quantitySuffix[m[3]]))
	}
	whole, rest := new(big.Int).QuoRem(value.Num(), value.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	if !whole.IsUint64() {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return whole.Uint64(), nil
}
