package access

import (
	"errors"
	"slices"
	"strings"

	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/appliance/policy/spell"
	"sallyport/appliance/policy/yamlfile"
)

// KindAccount is the kind of the things of accounts.yaml.
const KindAccount = "account"

// An Account is one as accounts.yaml has it.
type Account struct {
	User     string
	Groups   []string // sorted
	Disabled bool
}

// accountsForm is accounts.yaml as it is written.
type accountsForm struct {
	Accounts []accountForm `yaml:"accounts"`
}

type accountForm struct {
	User     string   `yaml:"user"`
	Groups   []string `yaml:"groups"`
	Disabled bool     `yaml:"disabled"`
}

// maxAccounts bounds a file of accounts.
const maxAccounts = 10_000

// readAccounts reads accounts.yaml, which may be missing. Groups are those of access.yaml: one that it does not have would
// count nowhere.
func readAccounts(data []byte, things []policy.Thing) (accounts []Account, err error) {
	if data == nil {
		return nil, nil
	}
	var groups []string
	for _, t := range things {
		if t.Kind == policy.KindGroup {
			groups = append(groups, t.Name)
		}
	}
	var form accountsForm
	f := yamlfile.Read(AccountsFile, data, &form)
	seen := map[string]int{}
	for i, a := range form.Accounts {
		at := f.At("accounts", i, "user")
		var bad *auth.Error
		switch first, twice := seen[a.User]; {
		case i >= maxAccounts:
			f.Fault(at, "", "there are more than %d accounts", maxAccounts)
			return nil, f.Err()
		case errors.As(auth.CheckUser(a.User), &bad):
			f.Fault(at, bad.Hint, "%s", bad.Sentence)
		case twice:
			f.Fault(at, "", "account %q is there twice; the first is in line %d", a.User, f.At("accounts", first, "user").Line)
		}
		seen[a.User] = i
		for j, group := range a.Groups {
			if !slices.Contains(groups, group) {
				f.Fault(f.At("accounts", i, "groups", j), spell.DidYouMean(group, groups, "add it under groups in access.yaml"), "there is no group %q", group)
			}
		}
		accounts = append(accounts, Account{a.User, slices.Compact(slices.Sorted(slices.Values(a.Groups))), a.Disabled})
	}
	return accounts, f.Err()
}

func (a Account) thing() policy.Thing {
	t := policy.Thing{Kind: KindAccount, Name: a.User, Says: map[string]string{}}
	if len(a.Groups) > 0 {
		t.Says["groups"] = strings.Join(a.Groups, ", ")
	}
	if a.Disabled {
		t.Says["disabled"] = "true"
	}
	return t
}

// AccountsOf are the accounts that a version names, also one whose rules cannot be read here any more.
func AccountsOf(f Files) []Account {
	var form accountsForm
	if yamlfile.Read(AccountsFile, f[AccountsFile], &form).Err() != nil {
		return nil
	}
	var accounts []Account
	for _, a := range form.Accounts {
		accounts = append(accounts, Account{a.User, slices.Compact(slices.Sorted(slices.Values(a.Groups))), a.Disabled})
	}
	return accounts
}

// An AccountChange is what a version does to an account.
type AccountChange struct {
	Account
	Keep   bool // is as it was: only if it is missing it is made
	Remove bool
}

// Ends says whether the account is of no use any more.
func (c AccountChange) Ends() bool { return c.Remove || c.Disabled && !c.Keep }

// AccountChanges are what comes of the accounts when a version follows another.
func AccountChanges(was, is []Account) (changes []AccountChange) {
	before := map[string]Account{}
	for _, a := range was {
		before[a.User] = a
	}
	for _, a := range is {
		old, known := before[a.User]
		changes = append(changes, AccountChange{Account: a, Keep: known && old.Disabled == a.Disabled && slices.Equal(old.Groups, a.Groups)})
		delete(before, a.User)
	}
	for _, a := range was {
		if _, gone := before[a.User]; gone {
			changes = append(changes, AccountChange{Account: a, Remove: true})
		}
	}
	return changes
}
