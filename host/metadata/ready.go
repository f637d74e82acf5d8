package metadata

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
)

// ReportReady tells Azure that the machine is provisioned: without it Azure ends a machine made of a generalized image
// after some time. It asks the wire server for the goal state and posts the health of the one instance in it (Azure
// Virtual Machines, "Creating generalized images without a provisioning agent"). For other clouds it does nothing.
func (c Client) ReportReady(ctx context.Context) error {
	if c.Cloud != Azure {
		return nil
	}
	c = c.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, c.Total)
	defer cancel()
	web := c.web()
	defer web.CloseIdleConnections()
	return c.repeat(ctx, func(ctx context.Context) error { return reportReady(ctx, web) })
}

func reportReady(ctx context.Context, web *http.Client) error {
	const root = "http://" + wireServer + "/machine/"
	header := http.Header{"X-Ms-Agent-Name": {"Sallyport"}, "X-Ms-Version": {"2012-11-30"}, "Content-Type": {"text/xml;charset=utf-8"}}
	b, err := ask(ctx, web, question{url: root + "?comp=goalstate", header: header, limit: maxReply})
	if err != nil {
		return err
	}
	goal, err := parseGoal(b)
	if err != nil {
		return fmt.Errorf("GET %s?comp=goalstate: %w", root, err)
	}
	_, err = ask(ctx, web, question{method: http.MethodPost, url: root + "?comp=health", header: header, body: goal.health(), limit: maxReply})
	return err
}

// A goalState is what Azure wants of the machine, as far as a report must say which one it answers.
type goalState struct {
	XMLName     xml.Name `xml:"GoalState"`
	Incarnation uint64   `xml:"Incarnation"`
	Container   string   `xml:"Container>ContainerId"`
	Instances   []string `xml:"Container>RoleInstanceList>RoleInstance>InstanceId"`
}

// parseGoal reads a goal state. One that names no instance, or several, is an error.
func parseGoal(b []byte) (goalState, error) {
	var g goalState
	if err := xml.Unmarshal(b, &g); err != nil {
		return goalState{}, errors.New("the goal state is not the XML of one") // the decoder's words may quote it
	}
	if g.Container == "" || len(g.Instances) != 1 || g.Instances[0] == "" {
		return goalState{}, errors.New("the goal state does not name one container and one instance")
	}
	return g, nil
}

// health is the report that the instance is ready.
func (g goalState) health() []byte {
	type role struct {
		Instance string `xml:"InstanceId"`
		State    string `xml:"Health>State"`
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	report := struct {
		XMLName     xml.Name `xml:"Health"`
		Incarnation uint64   `xml:"GoalStateIncarnation"`
		Container   string   `xml:"Container>ContainerId"`
		Role        role     `xml:"Container>RoleInstanceList>Role"`
	}{Incarnation: g.Incarnation, Container: g.Container, Role: role{g.Instances[0], "Ready"}}
	if err := xml.NewEncoder(&b).Encode(report); err != nil {
		panic(err) // strings and a number can be written
	}
	return b.Bytes()
}
