// A team's own CDK app with the printed snippet in it; prints the resources that it makes: `node stack.js OUTPUT-DIRECTORY`.
import { App, LegacyStackSynthesizer, Stack } from 'aws-cdk-lib';
import { ephemworkBastion } from './snippet';

const app = new App({ outdir: process.argv[2], analyticsReporting: false });
const stack = new Stack(app, 'Team', {
  env: { account: '123456789012', region: 'eu-west-1' },
  synthesizer: new LegacyStackSynthesizer(),
});
ephemworkBastion(stack);
console.log(JSON.stringify(app.synth().getStackByName('Team').template.Resources));
