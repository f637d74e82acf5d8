package signin

import "sallyport/appliance/auth"

// The errors of this package that a person sees. Compare with errors.Is.
var (
	ErrUnknownLogin = &auth.Error{Code: "E_LOGIN_UNKNOWN", Sentence: "this login is not known here", Hint: "it lasts ten minutes; run sallyport login again"}
	ErrProof        = &auth.Error{Code: "E_LOGIN_PROOF", Sentence: "the device has not proved its key", Hint: "run sallyport login again"}
	ErrReplayed     = &auth.Error{Code: "E_LOGIN_REPLAY", Sentence: "this question was asked before", Hint: "run sallyport login again"}
	ErrSlow         = &auth.Error{Code: "E_LOGIN_SLOW", Sentence: "asked again too soon", Hint: "wait for the interval that the appliance has named"}
	ErrDenied       = &auth.Error{Code: "E_LOGIN_DENIED", Sentence: "the login was denied in the browser", Hint: "run sallyport login again if that was a mistake"}
	ErrTaken        = &auth.Error{Code: "E_LOGIN_USED", Sentence: "this login has been used", Hint: "the device is enrolled; if it cannot connect run sallyport login again"}
	ErrManyLogins   = &auth.Error{Code: "E_LOGIN_LIMIT", Sentence: "too many logins wait for a browser from here", Hint: "finish one of them, or wait ten minutes"}

	ErrCode    = &auth.Error{Code: "E_LOGIN_CODE", Sentence: "no login waits under this code", Hint: "compare it with what the device shows; it lasts ten minutes"}
	ErrDecided = &auth.Error{Code: "E_LOGIN_DECIDED", Sentence: "this login has been decided already"}

	ErrVisit     = &auth.Error{Code: "E_LOGIN_AGAIN", Sentence: "this page is too old", Hint: "sign in again; if this comes at once, let the browser keep cookies for this address"}
	ErrWrong     = &auth.Error{Code: "E_LOGIN_WRONG", Sentence: "the user name or the password is wrong"}
	ErrWrongCode = &auth.Error{Code: "E_LOGIN_FACTOR", Sentence: "the code is wrong or has been used", Hint: "wait for the next one"}
	ErrNoSecond  = &auth.Error{Code: "E_LOGIN_SECOND", Sentence: "this account has no second factor", Hint: "ask an administrator for an enrolment code"}
	ErrLocked    = &auth.Error{Code: "E_LOCKED", Sentence: "this account is locked", Hint: "ask an administrator"}
	ErrNameTaken = &auth.Error{Code: "E_LOGIN_NAME", Sentence: "this user name belongs to somebody else here", Hint: "ask an administrator"}
	ErrNoSuchWay = &auth.Error{Code: "E_LOGIN_WAY", Sentence: "this way to sign in is not set up here"}
)
