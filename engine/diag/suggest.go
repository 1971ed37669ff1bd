package diag

import "strings"

// Suggest is the candidate nearest to got, or "" when none is near enough to be meant.
func Suggest(got string, candidates []string) string {
	if len(got) > 64 {
		return ""
	}
	best, bestAt, bestExact := "", 0, 0
	for _, c := range candidates {
		if len(c) > 64 {
			continue
		}
		d := distance(strings.ToLower(got), strings.ToLower(c))
		limit := max(1, min(len(got), len(c))/3)
		if d > limit || best != "" && d > bestAt {
			continue
		}
		// Among equals, the one in the case that was typed.
		exact := distance(got, c)
		if best == "" || d < bestAt || exact < bestExact || exact == bestExact && c < best {
			best, bestAt, bestExact = c, d, exact
		}
	}
	return best
}

// distance is the optimal string alignment distance: Levenshtein's plus swaps of neighbours, the commonest typing error.
func distance(a, b string) int {
	ra, rb := []rune(a), []rune(b)
	prev2, prev, cur := make([]int, len(rb)+1), make([]int, len(rb)+1), make([]int, len(rb)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(ra); i++ {
		cur[0] = i
		for j := 1; j <= len(rb); j++ {
			cost := 1
			if ra[i-1] == rb[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && ra[i-1] == rb[j-2] && ra[i-2] == rb[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(rb)]
}
