package bench

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// page is the report for a browser: it needs nothing else, no script and no network.
var page = template.Must(template.New("report").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>sallyport-bench</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child,table.words td,table.words th{text-align:left}.missed{color:#a00000}.met{color:#006000}
svg{max-width:100%;height:auto;margin:.5rem 1rem .5rem 0}
</style>
<h1>sallyport-bench</h1>
<p>{{.Report.Begin.Format "2 January 2006 15:04 UTC"}}, {{.Took}}. {{.Report.Machine.Model}}, {{.Report.Machine.CPUs}} CPUs, Linux {{.Report.Machine.Kernel}}, load {{printf "%.2f" .Report.Machine.Load}}; {{.Report.Version}}</p>
{{range .Report.Settings}}<p>{{.}}</p>{{end}}
{{with .Report.Judgement}}<h2>{{.Verdict}}</h2>
<table class="words">{{range $.Rulings}}<tr class="{{index . 0}}">{{range .}}<td>{{.}}</td>{{end}}</tr>{{end}}</table>{{end}}
{{range .Groups}}<h2>{{.Title}}</h2>
<table>{{range $i, $row := .Rows}}<tr>{{range $row}}{{if eq $i 0}}<th>{{.}}</th>{{else}}<td>{{.}}</td>{{end}}{{end}}</tr>{{end}}</table>
{{range .Plots}}{{.}}{{end}}
<table class="words">{{range .Measures}}<tr><td>{{.Name}}</td><td>{{.Says}}</td></tr>{{end}}</table>
{{end}}
<h2>Candidates</h2>
<table class="words">{{range .Report.Candidates}}<tr><td>{{.Name}}</td><td>{{.Kind}}</td><td>{{.Says}}</td><td>{{.Version}}</td></tr>{{end}}</table>
{{with .Report.Omissions}}<h2>Not measured</h2><table class="words">{{range .}}<tr><td>{{.}}</td></tr>{{end}}</table>{{end}}
</html>
`))

type pageGroup struct {
	Title    string
	Rows     [][]string
	Plots    []template.HTML
	Measures []Measure
}

// HTML writes the report as one page.
func (r *Report) HTML(w io.Writer) error {
	var shown []pageGroup
	for _, g := range groups {
		measures := r.group(g.name)
		if len(measures) == 0 {
			continue
		}
		p := pageGroup{Title: g.title, Rows: r.rows(measures), Measures: measures}
		for _, m := range measures {
			svg, err := r.plot(m)
			if err != nil {
				return fmt.Errorf("plot %s: %w", m.Name, err)
			}
			p.Plots = append(p.Plots, svg)
		}
		shown = append(shown, p)
	}
	var rulings [][]string
	if r.Judgement != nil {
		for _, ruling := range r.Judgement.Rulings {
			rulings = append(rulings, ruling.row())
		}
	}
	return page.Execute(w, map[string]any{"Report": r, "Took": r.Took.Round(1e9), "Groups": shown, "Rulings": rulings})
}

// plot draws one measure: a bar for each candidate's median, and a dot for each round.
func (r *Report) plot(m Measure) (template.HTML, error) {
	p := plot.New()
	p.Title.Text = m.Name
	p.X.Label.Text = m.Unit
	p.X.Min = 0
	var labels []string
	var medians plotter.Values
	var dots plotter.XYs
	for i := len(r.Candidates) - 1; i >= 0; i-- { // the first one at the top
		s := r.Series(r.Candidates[i].Name, m.Name)
		if len(s) == 0 {
			continue
		}
		for _, v := range s.Values() {
			dots = append(dots, plotter.XY{X: v, Y: float64(len(labels))})
		}
		labels = append(labels, r.Candidates[i].Name)
		medians = append(medians, s.Median())
	}
	bars, err := plotter.NewBarChart(medians, vg.Points(10))
	if err != nil {
		return "", err
	}
	bars.Horizontal = true
	bars.LineStyle.Width = 0
	bars.Color = color.RGBA{R: 0x7a, G: 0xa6, B: 0xd6, A: 0xff}
	points, err := plotter.NewScatter(dots)
	if err != nil {
		return "", err
	}
	points.Radius = vg.Points(1.5)
	p.Add(bars, points)
	p.NominalY(labels...)
	// Each letter of a monospaced font is as wide in the reader's browser as it is here, whatever font that has.
	p.Y.Tick.Label.Font.Variant, p.Y.Tick.Label.Font.Size = "Mono", vg.Points(8)
	canvas := vgsvg.New(14*vg.Centimeter, vg.Length(2+len(labels))*0.6*vg.Centimeter+2*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", err
	}
	_, svg, _ := bytes.Cut(b.Bytes(), []byte("<svg")) // without the XML declaration and comments before it
	return template.HTML("<svg" + string(svg)), nil
}
