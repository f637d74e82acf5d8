package appliance

import "sallyport/appliance/api"

// settings tells an administrator which configuration is in force.
func (c call) settings() (any, error) {
	if c.gateway.Settings == nil {
		return []api.Setting{}, nil
	}
	return c.gateway.Settings(), nil
}
