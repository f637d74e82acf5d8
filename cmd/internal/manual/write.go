package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Write puts the pages into a folder that is there. Their date is SOURCE_DATE_EPOCH of the environment
// (https://reproducible-builds.org/specs/source-date-epoch/); without it they have none.
func (m Manual) Write(folder string, getenv func(string) string) error {
	if epoch := getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds", epoch)
		}
		m.Date = time.Unix(seconds, 0)
	}
	for name, page := range m.Pages() {
		if err := os.WriteFile(filepath.Join(folder, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}
