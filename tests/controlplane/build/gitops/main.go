// Command gitops says of objects what GitOps tools say of them, with the libraries that these tools use.
//
// "gitops judge" reads {"health": Lua, "expressions": {...}, "objects": [...]} and writes a verdict for each object: kstatus',
// Flux's by the expressions, and Argo CD's by the Lua. "gitops decode" reads a list of Flux' own objects, and fails where one has
// a field that Flux does not know. Both use standard input and output.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	helm "github.com/fluxcd/helm-controller/api/v2"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	expressions "github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	source "github.com/fluxcd/source-controller/api/v1"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// luaTimeout is what Argo CD gives a health check.
const luaTimeout = time.Second

type question struct {
	Health      string                             `json:"health"`
	Expressions expressions.HealthCheckExpressions `json:"expressions"`
	Objects     []json.RawMessage                  `json:"objects"`
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type verdict struct {
	Kstatus health `json:"kstatus"`
	Flux    string `json:"flux"`
	Argo    health `json:"argo"`
}

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: gitops judge | decode"))
	}
	var err error
	switch os.Args[1] {
	case "judge":
		err = judgeAll()
	case "decode":
		err = decodeAll()
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func judgeAll() error {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return err
	}
	evaluator, err := cel.NewStatusEvaluator(&asked.Expressions)
	if err != nil {
		return err
	}
	verdicts := make([]verdict, 0, len(asked.Objects))
	for _, raw := range asked.Objects {
		object := &unstructured.Unstructured{}
		// The decoder of Kubernetes: whole numbers are int64, as the libraries expect.
		if err := object.UnmarshalJSON(raw); err != nil {
			return err
		}
		one, err := judge(object, evaluator, asked.Health)
		if err != nil {
			return fmt.Errorf("%s: %w", object.GetName(), err)
		}
		verdicts = append(verdicts, one)
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

func judge(object *unstructured.Unstructured, evaluator *cel.StatusEvaluator, script string) (verdict, error) {
	computed, err := status.Compute(object)
	if err != nil {
		return verdict{}, fmt.Errorf("kstatus: %w", err)
	}
	flux, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return verdict{}, fmt.Errorf("healthCheckExprs: %w", err)
	}
	argo, err := runLua(object.Object, script)
	if err != nil {
		return verdict{}, fmt.Errorf("health.lua: %w", err)
	}
	return verdict{
		Kstatus: health{Status: string(computed.Status), Message: computed.Message},
		Flux:    string(flux.Status),
		Argo:    argo,
	}, nil
}

// runLua runs a health check with the libraries that Argo CD opens for it: the base one and table, not string.
func runLua(object map[string]any, script string) (health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return health{}, err
		}
	}
	limited, cancel := context.WithTimeout(context.Background(), luaTimeout)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		return health{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return health{}, fmt.Errorf("it returns a %s, not a table", state.Get(-1).Type())
	}
	found := health{}
	for key, into := range map[string]*string{"status": &found.Status, "message": &found.Message} {
		switch value := table.RawGetString(key).(type) {
		case lua.LString:
			*into = string(value)
		case *lua.LNilType:
		default:
			return health{}, fmt.Errorf("%s is a %s, not a string", key, value.Type())
		}
	}
	return found, nil
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch of := value.(type) {
	case bool:
		return lua.LBool(of)
	case int64:
		return lua.LNumber(of)
	case float64:
		return lua.LNumber(of)
	case string:
		return lua.LString(of)
	case []any:
		list := state.CreateTable(len(of), 0)
		for _, item := range of {
			list.Append(toLua(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(of))
		for key, item := range of {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}

func decodeAll() error {
	var documents []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&documents); err != nil {
		return err
	}
	for _, raw := range documents {
		var of struct{ APIVersion, Kind string }
		if err := json.Unmarshal(raw, &of); err != nil {
			return err
		}
		var into any
		switch of.APIVersion + " " + of.Kind {
		case kustomize.GroupVersion.String() + " Kustomization":
			into = &kustomize.Kustomization{}
		case helm.GroupVersion.String() + " HelmRelease":
			into = &helm.HelmRelease{}
		case source.GroupVersion.String() + " GitRepository":
			into = &source.GitRepository{}
		default:
			return fmt.Errorf("%s %s is none of Flux' kinds that this program knows", of.APIVersion, of.Kind)
		}
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(into); err != nil {
			return fmt.Errorf("%s: %w", of.Kind, err)
		}
	}
	return nil
}
