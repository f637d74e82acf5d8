package spell

import (
	"slices"
	"testing"
)

func TestNear(t *testing.T) {
	tests := []struct {
		word       string
		candidates []string
		want       []string
	}{
		{"db9", []string{"web-1", "db-09", "db-08"}, []string{"db-09"}},
		{"targts", []string{"rules", "targets", "admins"}, []string{"targets"}},
		{"tragets", []string{"targets"}, []string{"targets"}},
		{"WEB-1", []string{"web-2", "web-1"}, []string{"web-1", "web-2"}},
		{"zzz", []string{"targets", "rules"}, nil},
		{"a", []string{"xyz"}, nil},
		{"", []string{"targets"}, nil},
		{"web-1", []string{"web-1", "web-1"}, []string{"web-1"}},
	}
	for _, tt := range tests {
		if got := Near(tt.word, tt.candidates, 3); !slices.Equal(got, tt.want) {
			t.Errorf("Near(%q, %q) = %q, want %q", tt.word, tt.candidates, got, tt.want)
		}
	}
}

func TestNearKeepsToItsLimit(t *testing.T) {
	if got := Near("web-1", []string{"web-2", "web-3", "web-4", "web-5"}, 3); len(got) != 3 {
		t.Errorf("got %q, want three names", got)
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "xbc", 1}, {"kitten", "sitting", 3},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b, 5); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance(tt.b, tt.a, 5); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	if got := DidYouMean("vnet", []string{"vnets"}, "no idea"); got != `did you mean "vnets"?` {
		t.Error(got)
	}
	if got := DidYouMean("quux", []string{"vnets"}, "no idea"); got != "no idea" {
		t.Error(got)
	}
}
