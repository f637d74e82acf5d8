package policy

import (
	_ "embed"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	schemata "github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

// Schema is the schema of our policies, in Cedar's language for schemas.
//
//go:embed schema.cedarschema
var Schema string

var (
	resolvedSchema = resolveSchema()
	validator      = validate.New(resolvedSchema)
)

// resolveSchema reads what stands in the program itself: a fault there is a bug.
func resolveSchema() *schemata.Schema {
	var s schema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar([]byte(Schema)); err != nil {
		panic(err)
	}
	r, err := s.Resolve()
	if err != nil {
		panic(err)
	}
	return r
}

// The entity types of the schema.
const (
	typeAction    = types.EntityType("Action")
	typeUser      = types.EntityType("User")
	typeGroup     = types.EntityType("Group")
	typeVNet      = types.EntityType("VNet")
	typeLabel     = types.EntityType("Label")
	typeTarget    = types.EntityType("Target")
	typeAddress   = types.EntityType("Address")
	typeAppliance = types.EntityType("Appliance")
)

// thisAppliance is the resource of what is done to the appliance itself.
var thisAppliance = uid(typeAppliance, "this")

func uid(t types.EntityType, id string) types.EntityUID {
	return types.NewEntityUID(t, types.String(id))
}

func labelUID(key, value string) types.EntityUID { return uid(typeLabel, key+"="+value) }

// timeRecord is context.time.
func timeRecord(t time.Time) types.Record {
	return types.NewRecord(types.RecordMap{
		"hour":    types.Long(t.Hour()),
		"minute":  types.Long(t.Minute()),
		"weekday": types.String(strings.ToLower(t.Weekday().String()[:3])),
		"date":    types.String(t.Format(time.DateOnly)),
	})
}
