labels_syn = torch.arange(10)
image_syn = torch.stack([real(c, 1)[0] for c in range(10)]).requires_grad_()
optimizer = torch.optim.Adam([image_syn], lr=0.05)
net, trajectory = network(), expert()
names = [name for name, _ in net.named_parameters()]
for step in range(steps):
    start, target = trajectory[0], trajectory[-1]
    theta = [weight.clone().requires_grad_() for weight in start]
    for inner in range(4):  # the unrolled student uses the images in each of its steps
        logits = functional_call(net, dict(zip(names, theta)), (image_syn,))
        grads = torch.autograd.grad(F.cross_entropy(logits, labels_syn), theta, create_graph=True)
        theta = [weight - 0.02 * grad for weight, grad in zip(theta, grads)]
    ends = sum((weight - wanted).square().sum() for weight, wanted in zip(theta, target))
    loss = ends / sum((first - wanted).square().sum() for first, wanted in zip(start, target))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
